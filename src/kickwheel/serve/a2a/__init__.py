"""A2A: our agents answer other agents, by the official SDK.

door      the routes; what stands behind them is made when somebody asks for the first time
card      what an agent says of itself
handler   the methods of the protocol: send, stream, get, list, cancel, subscribe, notifications
work      tasks at work: each is a kept run of an agent, told to all who follow it
tasks     tasks in the store, which survive the program
parts     what a message says, and what an answer becomes
push      notifications to whoever gave a URL
owed      notifications in the store until they were heard

The SDK is imported by all but `door`, which is imported without it.
"""
