"""What a report can draw of a finding: channels, values on the int8 grid, gains, and the graph around it."""
