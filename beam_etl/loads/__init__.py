"""The life of a load: its plan, its books, its leases, its publication and its report."""
