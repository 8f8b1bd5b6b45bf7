"""Django's MySQL backend, for servers older than Django's own minimum."""
