"""mailrelay: a local mail relay that makes each mail durable and delivers it through SMTP providers."""

__version__ = "0.1.0"
