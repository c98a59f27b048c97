"""A run in the FiftyOne App; nothing else imports fiftyone."""
