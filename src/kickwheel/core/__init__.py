"""What all rooms stand on; it knows neither models nor agents nor users.

config   a YAML file with its lines and columns, checked against classes
plugins  parts: classes that the YAML file can name
errors   everything that can go wrong, as a tree
journal  finished steps, so that killed work goes on
schema   JSON Schema with its references written out
redact   secrets and personal data out of text
identity ids of what comes by the thousand a second
package  a file of the package index, checked
files    written whole or not at all
store    where traces, artifacts and refs live
"""
