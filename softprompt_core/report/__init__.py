"""What people see in the MLflow UI: figures, descriptions and the gate report."""
