"""Something in Redis that one at a time holds, for a while."""

from events.log.connect import Client, answering

# Redis keeps the end of a key by its machine's clock: one that was ahead for a while leaves keys that outlive their time. No
# holder has longer than it asked for.
_TAKE = """
local holder = redis.call('GET', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if holder == false or holder == ARGV[1] or left > tonumber(ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
return 0
"""


def keep_for(client: Client, name: str, holder: str, milliseconds: int) -> bool:
    """Take a key for so long, or keep it for as long again; false where another holder has it.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    with answering():
        return bool(client.eval(_TAKE, 1, name, holder, str(milliseconds)))


def take_for(client: Client, name: str, holder: str, milliseconds: int) -> bool:
    """Take a key that has no holder for so long; false where it has one, the same one included.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    with answering():
        if client.set(name, holder, nx=True, px=milliseconds):
            return True
        left = int(client.pttl(name))
    return left > milliseconds and keep_for(client, name, holder, milliseconds)
