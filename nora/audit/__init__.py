"""The audit log: who changed what, and who could not log in, as lines of JSON in files of a day each."""
