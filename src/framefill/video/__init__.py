"""Video: clips in and out of files, the pictures people look at, and `VideoModel`, which fills frames in."""
