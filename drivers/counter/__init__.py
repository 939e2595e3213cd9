"""People counters: cumulative counts by Modbus registers, by HTTP (asked or told) and by MQTT."""

from drivers.counter.http import HttpPullCounter, HttpPushCounter
from drivers.counter.mqtt import MqttCounter
from drivers.counter.registers import CounterRegisters, ModbusCounter

__all__ = ("CounterRegisters", "HttpPullCounter", "HttpPushCounter", "ModbusCounter", "MqttCounter")
