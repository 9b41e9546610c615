"""IoT Hub's query language and target conditions: parsing, evaluation and printing (contract/hub.md §2.1, §2.2)."""
