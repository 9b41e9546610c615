"""The paths of Device Update for IoT Hub, as its clients ask for them (docs/guides/updates.md)."""
