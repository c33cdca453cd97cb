"""Diffusion mathematics: noises, schedules, targets, weights, denoisers, samplers, guidance and completion.

A forward process x_t = alpha_t x + sigma_t n, with n from a Gaussian of covariance Sigma. Everything else is built on
two estimates, the clean signal x_hat and the noise n_hat = (x_t - alpha_t x_hat) / sigma_t.
"""
