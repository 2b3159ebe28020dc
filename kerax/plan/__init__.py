"""Programs of devices that may be absent: what they compute, move and need, and what such devices can do."""
