"""How far a running load is: a board that workers write on, and what shows it to a person."""
