"""What people read of loads: report.html of one, and the history of all."""
