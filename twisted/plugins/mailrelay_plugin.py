"""`twistd mailrelay`. The service is named and not imported, so that `twistd --reactor` still has a choice."""

from twisted.application.service import ServiceMaker

mailrelay = ServiceMaker(
    "mailrelay",
    "relay.tap",
    "A local mail relay that makes each mail durable and delivers it through SMTP providers.",
    "mailrelay",
)
