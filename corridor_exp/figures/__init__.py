"""Pictures and tables, from run directories alone. The only room that imports matplotlib."""
