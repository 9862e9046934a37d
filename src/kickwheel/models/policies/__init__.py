"""What stands between an agent and its models: kinds that wrap other models by name.

fallback   the next model where one does not answer
hedged     a second request where the first is slow; whoever begins first answers
budget     tokens, money and time, for a request, a user, a key, and all together
cache      answers that were given before, word for word or nearly
coalesced  one request for many that ask the same at once (`told`: one answer for all)

A policy is a model like any other, so that they nest. What it decides is noted on the span of the
call (`wrapped.decided`). Retries are no policy: each client has them (`models.retry`).
New policy: one file here, one entry point, one page in docs/models/.
"""
