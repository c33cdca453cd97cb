"""Continuous normalising flows: a density, an encoder and a sampler in one invertible map, dv/dt = f(v, t, cond)."""
