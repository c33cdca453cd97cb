"""Networks: modules that know shapes, not tasks."""
