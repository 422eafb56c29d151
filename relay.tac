from twisted.application.service import Application
from relay.tap import service_of_tac
application = Application("mailrelay")
service_of_tac().setServiceParent(application)
