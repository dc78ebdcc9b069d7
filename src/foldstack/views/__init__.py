"""Views show the records that stages return."""
