"""The paths of Azure IoT Hub, with its request and answer shapes (contract/hub.md)."""
