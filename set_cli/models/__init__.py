"""The networks. They know neither files nor data sets."""
