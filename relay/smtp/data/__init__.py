"""Data: a mail's content on the wire, in both directions and in any chunks. It knows no network and no clock."""
