"""Local and remote files: paths and URLs, atomic writes, retries, verified transfer."""
