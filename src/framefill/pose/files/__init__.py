"""Motion and handles in files: BVH, AMASS's NPZ layout, SMPL bodies, and effectors as a table.

Inside are metres, radians and y up; every reader says what its file means, and no reader believes a length that the
file states about itself.
"""
