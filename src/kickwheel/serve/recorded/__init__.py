"""Traffic of programs that ask models elsewhere, passed on and noted: `/t/<project>/v1/…`.

place      which project a path names
passing    the proxy: bytes in both directions, as they are
exchange   one request and its answer, as bytes
heard      what those bytes say, as a trace: made by the recorder's thread, after the last byte
chat       …of chat and of legacy completions
responses  …of responses
answered   what both found

What passes is never waited for by what is read.
"""

from kickwheel.serve.recorded.passing import Passing, Upstream, check_url, passing

__all__ = ["Passing", "Upstream", "check_url", "passing"]
