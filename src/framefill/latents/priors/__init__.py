"""Token priors: what clips of tokens look like, token after token or all at once, under one contract."""
