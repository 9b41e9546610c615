"""What handlers share: connections, projections, batched writes, long polls; and what belongs to one request."""
