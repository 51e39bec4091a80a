"""The edge process: devices in, rules, durable journal, sinks. It goes on judging and alarming with the uplink down."""
