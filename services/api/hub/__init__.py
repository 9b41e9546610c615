"""The paths of IoT Hub, in its shapes (contract/hub.md)."""
