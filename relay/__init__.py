"""mailrelay: a local mail relay that makes each mail durable and delivers it through SMTP providers."""
