"""Sendmail: the command of that name, for every user and program of the host (sendmail(1)).

It starts for each mail anew, so it imports next to nothing. It opens no spool and knows no secret: a mail goes to the
daemon over SMTP, or, where no daemon answers, into the drop folder. `relay.drop` takes it from there.
"""
