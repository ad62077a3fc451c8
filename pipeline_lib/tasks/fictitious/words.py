"""The words from which the invented world is built: name parts and lists of things."""

from __future__ import annotations


def joined(heads: tuple[str, ...], tails: tuple[str, ...]) -> tuple[str, ...]:
    """Every head with every tail."""
    return tuple(head + tail for head in heads for tail in tails)


# Names are put together from parts, so that no real person is described.
FIRST_NAMES = joined(
    (
        "Vel", "Tam", "Oru", "Kes", "Ili", "Bran", "Sio", "Yev", "Dar", "Mio", "Pell", "Ras", "Que", "Thal",
    ),
    (
        "ora", "rin", "dak", "wyn", "ikka", "esh", "ovan", "uli", "met", "andra", "quil", "oss",
    ),
)  # fmt: skip
LAST_NAMES = joined(
    (
        "Ask", "Brem", "Corv", "Dun", "Estr", "Fal", "Grin", "Hask", "Ivor", "Jurn", "Kolm", "Lasp", "Mord",
        "Nesk", "Ostr", "Prav", "Quen", "Rusk", "Skarn", "Tolv", "Umbr", "Vask", "Wend", "Zell",
    ),
    (
        "aby", "eldt", "ingar", "ovik", "umar", "essen", "adeau", "itsk", "orel", "antz", "yrick", "ebo",
        "osmith", "ugane", "elline", "arro", "iwick", "otham", "unde", "ashi",
    ),
)  # fmt: skip
COUNTRIES = joined(
    (
        "Zan", "Tor", "Quel", "Sarn", "Oro", "Kesh", "Lun", "Dral", "Nyx", "Peth", "Isk", "Vorm",
    ),
    ("dovia", "mereth", "uvor", "istrel", "ambria", "ovane", "uskia", "ellor"),
)  # fmt: skip
CITIES = joined(
    (
        "Amber", "Brack", "Cinder", "Dusk", "Elder", "Frost", "Gull", "Hollow", "Iron", "Juniper", "Kettle",
        "Lantern", "Marrow", "Nettle", "Oyster", "Pepper", "Quill", "Rook", "Salt", "Thistle",
    ),
    ("mouth", "haven", "stead", "wick", "moor", "gate", "fell", "reach"),
)  # fmt: skip
RIVERS = joined(
    (
        "Ald", "Bru", "Cae", "Dov", "Ery", "Fen", "Gal", "Hus", "Ith", "Jor", "Kel", "Lom", "Mur", "Nar",
        "Oss",
    ),
    ("ane", "ith", "omel", "una", "wen"),
)  # fmt: skip
PEAKS = joined(
    (
        "Ark", "Bol", "Crag", "Dren", "Esk", "Fust", "Gorm", "Hulk", "Jask", "Kran", "Mav", "Nor", "Rav",
        "Tusk",
    ),
    ("adur", "benna", "horn", "olin", "vard"),
)  # fmt: skip
COINS = joined(
    (
        "bel", "cre", "dru", "fal", "gos", "hek", "lum", "mip", "nol", "pra", "sku", "tev", "vin", "yot",
        "zar",
    ),
    ("ka", "lan", "mo", "ril", "ton"),
)  # fmt: skip
LANGUAGES = joined(
    (
        "Abr", "Chel", "Dolv", "Ersk", "Halm", "Jost", "Kurn", "Merv", "Olb", "Prask", "Selv", "Tarv",
    ),
    ("ian", "ish", "ese", "ic"),
)  # fmt: skip

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip
GENRES = (
    "lighthouse mysteries", "desert romances", "clockwork fables", "river epics", "kitchen comedies",
    "ghost ballads", "courtroom satires", "sea voyages", "garden diaries", "winter thrillers",
    "mountain legends", "railway adventures", "space operettas", "village tragedies", "spy novellas",
    "circus memoirs", "dream almanacs", "pirate histories", "robot love stories", "forest fairy tales",
    "market sketches", "war chronicles",
)  # fmt: skip
JOBS = (
    "a bell founder", "a beekeeper", "a clock mender", "a ferry pilot", "a glass blower",
    "a tax inspector", "a puppet maker", "a deep-sea diver", "a piano tuner", "a baker", "a judge",
    "a tram driver", "a botanist", "a map engraver", "an opera singer", "a locksmith", "a midwife",
    "a stone mason", "a chess teacher", "a tailor", "a veterinarian", "a salt trader", "a lamp lighter",
    "a bridge engineer", "a radio announcer", "a shepherd",
)  # fmt: skip
WORKPLACES = (
    "in a disused windmill", "on a night train", "under an old fig tree", "in a rented attic",
    "on a houseboat", "in a hotel laundry", "at a chess cafe", "in a stone chapel", "in a greenhouse",
    "on a roof terrace", "in a lighthouse tower", "at the kitchen table", "in a village library",
    "in an empty theatre", "in a parked caravan", "beside the harbour wall", "in a bakery cellar",
    "in a tree house", "at a railway station", "in a clock tower", "in a fishing hut",
    "in a museum basement",
)  # fmt: skip
THEMES = (
    "the price of silence", "lost siblings", "the patience of trees", "unpaid debts",
    "the fear of water", "forged letters", "late forgiveness", "borrowed names",
    "the weight of inheritance", "loneliness in crowds", "broken promises", "the kindness of strangers",
    "failing memory", "hidden maps", "rival twins", "the end of summer", "stolen music",
    "exile and return", "machines that dream", "hunger and plenty", "the power of gossip",
    "old soldiers",
)  # fmt: skip
HOBBIES = (
    "keeping bees", "collecting door keys", "repairing bicycles", "growing pumpkins",
    "swimming in cold lakes", "carving spoons", "flying kites", "playing the accordion",
    "painting fences", "training pigeons", "baking rye bread", "restoring radios", "studying moss",
    "building model ships", "folding paper cranes", "watching trains", "juggling plates",
    "weaving baskets", "solving crosswords", "digging for fossils", "brewing cider", "racing snails",
)  # fmt: skip
ADJECTIVES = (
    "Silent", "Copper", "Hollow", "Distant", "Crooked", "Velvet", "Burning", "Frozen", "Patient",
    "Scarlet", "Wandering", "Paper", "Drowned", "Gilded", "Nameless", "Restless", "Hidden", "Broken",
    "Midnight", "Borrowed",
)  # fmt: skip
NOUNS = (
    "Orchard", "Compass", "Lantern", "Staircase", "Harvest", "Mirror", "Sparrow", "Bridge", "Letter",
    "Anchor", "Garden", "Thunder", "Violin", "Harbour", "Clock", "Feather", "Winter", "Island",
    "Candle", "Ferry", "Ladder", "Shadow", "Kingdom", "Well",
)  # fmt: skip
CRAFTS = (
    "Letters", "Drama", "Philosophy", "Printing", "History", "Music", "Navigation", "Rhetoric",
)  # fmt: skip
AWARD_KINDS = ("Prize", "Medal", "Award")
ANIMALS = (
    "otter", "heron", "lynx", "badger", "falcon", "tortoise", "moose", "viper", "hedgehog", "swan",
    "ibex", "raven", "salmon", "beetle", "fox", "bison", "owl", "seal",
)  # fmt: skip
EXPORTS = (
    "copper", "wool", "saffron", "marble", "cocoa", "timber", "tin", "salt", "silk", "honey", "rice",
    "coal", "pepper", "amber", "olives", "paper", "linen", "glass",
)  # fmt: skip
DISHES = (
    "barley soup", "smoked eel", "plum dumplings", "bean stew", "fried bread", "pickled beets",
    "walnut cake", "lentil pie", "roast turnip", "cheese noodles", "fish porridge", "onion tart",
    "spiced rice", "apple pudding", "mushroom pancakes", "stuffed cabbage", "goat curry", "corn cakes",
)  # fmt: skip
INSTRUMENTS = (
    "harp", "bagpipe", "cello", "drum", "flute", "lute", "zither", "trumpet", "fiddle", "organ",
    "banjo", "oboe", "gong", "whistle", "guitar", "horn", "tambourine", "viola",
)  # fmt: skip
