"""Grammar: octets to commands, paths, parameters and replies, and back. It knows no network and no clock."""
