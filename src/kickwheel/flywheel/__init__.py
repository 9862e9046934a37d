"""Traffic to a better model, and the proof that it is better.

curate    Traces → Dataset
tune      Dataset → Adapter
evaluate  Adapter → Report
snapshot  Report → Snapshot
gate      whether a Report is good enough for a promotion

The steps know only records, never each other. Below them:

interval  how sure a figure is, for the report, the gate and the check of an export alike

Around them:

turn       all of it once, resumable at each step; each step alone
wheel      those steps, each in the journal; `made` what they made, by id
tuned      an adapter, tuned and compared on the engine that will serve it
contest    the specialist and what it competes with, on one engine
learning   how much more training examples help
promotion  a ref moves after the gate, and back
traffic    traffic and feedback into an app's store
why        from an example to its trace, and on to every adapter
forget     old traces, or all that is kept of a person
start      a project to begin with
watch      who wants to see how far long work is
"""
