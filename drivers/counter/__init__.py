"""People counters: cumulative counts by Modbus registers, by HTTP (asked or told) and by MQTT."""
