"""Outputs: what tells machines of results: webhook, MQTT, OPC UA, Modbus TCP."""
