"""Autoencoders: pictures to small latents and back, under one contract."""
