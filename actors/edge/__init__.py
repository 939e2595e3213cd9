"""The actors of a lane controller: a lane's own computer, which decides alone when nobody answers.

    _parts        the disk, the lists, the policy, and what the actors tell each other
    alone         the decision without the server; pure
    decider       plays admission: the server while it answers in time, the lane itself otherwise
    ledger        plays the ledger: the lane's own journal
    upload        the journal, to the server
    lists         the site's lists, from the server
    neighbours    what the lanes of one entrance let in
    link          greetings, beats, commands
    evacuation    the lane's own latch
    power         the supply's battery
    renewal       the lane's certificate, while it counts

`paifang.lane_wiring` puts them together round the same lane and the same drivers that a site server has.
"""

from actors.edge._parts import Disk, EdgePolicy, LinkUp, ModeChanged, Tell, Uploaded, Written
from actors.edge.decider import EDGE, ONLINE, Clocks, Decider, EdgeKeys
from actors.edge.evacuation import EdgeEvacuation, ServerRearm, ServerRelease
from actors.edge.ledger import EdgeLedger
from actors.edge.link import Connected, DiskTrouble, EdgeLink, Woken
from actors.edge.lists import Hint, ListActor
from actors.edge.neighbours import NeighbourActor
from actors.edge.power import PowerActor
from actors.edge.renewal import RenewalActor
from actors.edge.upload import UploadActor

__all__ = [
    "EDGE",
    "ONLINE",
    "Clocks",
    "Connected",
    "Decider",
    "Disk",
    "DiskTrouble",
    "EdgeEvacuation",
    "EdgeKeys",
    "EdgeLedger",
    "EdgeLink",
    "EdgePolicy",
    "Hint",
    "LinkUp",
    "ListActor",
    "ModeChanged",
    "NeighbourActor",
    "PowerActor",
    "RenewalActor",
    "ServerRearm",
    "ServerRelease",
    "Tell",
    "UploadActor",
    "Uploaded",
    "Woken",
    "Written",
]
