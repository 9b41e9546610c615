"""Why a device has its configuration, and why other deployments do not apply to it."""
