"""Benchmarks: mailrelay beside Postfix, in turn, on one machine; docs/performance.md holds the figures."""
