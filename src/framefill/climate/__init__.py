"""Climate fields: xarray at the door, tensors inside, simple forecasts to beat, and files that others can read."""
