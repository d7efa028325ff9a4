"""Where bytes are: paths and URLs, retries, checked transfer, a directory in a bucket."""
