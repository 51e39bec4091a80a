"""The approval service: records, people, permits, grants, audit, pages. It never computes a gas or lock alarm."""
