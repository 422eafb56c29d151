"""Bounce: what the sender of a mail is told when it fails, waits or was handed on (RFC 3464). Pure.

`notice` says who hears of what, `report` writes the reports and `digest` gathers those that would be too many. `fate`,
`words` and `mime` are what they are made of: what became of one recipient, plain words for it, and octets.

A report is ASCII in lines of bounded length, in English and in no locale, whatever the mail and the provider said.
"""
