"""Words and sentence frames of the generated stories, written for this project."""

from __future__ import annotations

# Invented names, divided between the worlds of the stories, so that no name is in two of them.
HER_NAMES = (
    "Adva", "Belis", "Corinda", "Damaris", "Elwen", "Fenna", "Galia", "Hestra", "Ilka", "Jorun", "Kestrel",
    "Lumi", "Marit", "Nerys", "Odile", "Perrin", "Quilla", "Rosmund", "Sunniva", "Tamsin", "Ulla", "Vesper",
    "Wenna", "Ysolde",
)  # fmt: skip
HIS_NAMES = (
    "Anselm", "Bertil", "Caspian", "Dorrin", "Edric", "Florin", "Gareth", "Halvar", "Ivo", "Jasper",
    "Kolman", "Lennard", "Mattis", "Norbert", "Osric", "Piran", "Quentin", "Ruben", "Steffan", "Torvald",
    "Ulric", "Volker", "Willem", "Zoltan",
)  # fmt: skip
PLACES = (
    "Arrowmere", "Bittern Lock", "Cinder Quay", "Dunhollow", "Eastwick Mill", "Fallow Bridge", "Greywater",
    "Harrow Point", "Inkwell Lane", "Juniper Cross", "Kettle Market", "Lantern Hill", "Mossgate",
    "Nettle Yard", "Otter Falls", "Pillar Street", "Quarry End", "Rook Tower", "Salt Stairs",
    "Thistle Court", "Underbrook", "Vine Alley", "Willow Gate", "Yarrow Field",
)  # fmt: skip
THINGS = (
    "brass compass", "blue lantern", "cracked bell", "iron key", "wooden flute", "torn map",
    "silver thimble", "glass eye", "red ledger", "bone comb", "copper kettle", "velvet glove",
    "tin whistle", "stone egg", "leather mask", "pewter spoon", "green bottle", "rusty anchor",
    "ivory dice", "paper crown", "clay lamp", "woollen coat", "broken clock", "sealed letter",
    "painted fan", "straw hat", "amber bead", "folding ruler", "black umbrella", "chipped cup",
)  # fmt: skip
ANIMALS = (
    "heron", "fox", "goat", "magpie", "donkey", "otter", "raven", "tabby", "hound", "hedgehog", "mule",
    "owl", "ferret", "goose", "toad", "mare",
)  # fmt: skip
WEATHER = (
    "rain", "thick fog", "hail", "a dry wind", "wet snow", "pale sunshine", "a thunderstorm", "drizzle",
    "frost", "sea mist", "heavy clouds", "a hot breeze", "sleet", "moonlight", "dust", "a red dawn",
)  # fmt: skip
TRADES = (
    "baker", "ferryman", "clockmaker", "beekeeper", "locksmith", "weaver", "chandler", "postmaster",
    "cooper", "gravedigger", "schoolmaster", "tailor", "glazier", "midwife", "lamplighter", "miller",
)  # fmt: skip
FOODS = (
    "barley soup", "pickled plums", "black bread", "roasted chestnuts", "onion pie", "smoked eel",
    "honey cake", "cold porridge", "pear cider", "goat cheese", "ginger biscuits", "nettle tea",
)  # fmt: skip
FEELINGS = (
    "uneasy", "cheerful", "weary", "stubborn", "curious", "ashamed", "hopeful", "furious", "calm",
    "homesick", "proud", "sleepless",
)  # fmt: skip
NUMBERS = (
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "eleven", "twelve", "thirteen",
    "fourteen", "nineteen", "thirty",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COLOURS = ("white", "yellow", "crimson", "purple", "grey", "orange", "brown", "turquoise")
PARTS = (
    "floor", "shelf", "roof", "well", "cellar", "stove", "window", "bench", "cupboard", "stairs", "hedge",
    "chimney",
)  # fmt: skip

# The first sentence of a scene: who, where, when. {who} is the scene's first person, {other} the second.
OPENINGS = (
    "On {day} {who} came to {place} with a {thing} and {number} coins.",
    "{Weather} lay over {place} when {who} knocked at the {trade}'s door.",
    "{who} had waited {number} days in {place} before {other} arrived.",
    "The {trade} of {place} owed {who} {number} bottles and a {thing}.",
    "At {place} {who} found a {colour} {animal} asleep beside a {thing}.",
    "{Number} letters from {other} reached {who} in {place} on {day}.",
    "Nobody in {place} believed {who} about the {animal} and the {thing}.",
    "{who} left {place} in {weather}, {feeling} and without the {thing}.",
)

# The sentences after it. {They} is the scene's first person, as he or she.
SENTENCES = (
    "{They} hid the {thing} under the {part} and told the {trade} nothing.",
    "{other} asked for {food}, but there was only {food2} left.",
    "{They} counted {number} {colour} stones and gave one to {other}.",
    "The {animal} ran off with the {thing} before {other} could shout.",
    '"Bring me the {thing} by {day}," said {other}, {feeling} as ever.',
    '"I saw {number} of them near {place}," {they} whispered to the {trade}.',
    "Then {weather} came in from {place} and put out the {colour} lamp.",
    "{other} had once been a {trade} in {place} and still walked like one.",
    "{They} felt {feeling} and ate {food} beside the {part}.",
    "For {number} hours the {trade} searched the {part} and found a {thing}.",
    "{other} drew a {animal} on the back of the {colour} card.",
    "{They} sold the {thing} to the {trade} for {number} pence.",
    "Behind the {part} stood a {colour} chest with a {thing} in it.",
    "The road to {place} was closed after the {weather_noun} of {day}.",
    '"Never trust a {trade} who keeps a {animal}," {they} said.',
    "{other} laughed, broke the {thing} and left the pieces by the {part}.",
    "By {day} the {food} was gone and the {animal} looked {feeling}.",
    "{They} dreamed of {place}, of {weather} and of a {colour} {animal}.",
    "A {colour} ribbon on the {part} meant that {other} had been there.",
    "{They} promised the {trade} {number} baskets of {food}.",
    "{other} swore that the {thing} had belonged to the {trade} of {place}.",
    "Without a word {they} carried the {animal} across the {part}.",
    "The {trade} wrote down {number} names, and the last was {other}.",
    "So {they} took the {colour} boat to {place} in {weather}.",
)
WEATHER_NOUNS = ("flood", "storm", "fire", "fair", "strike", "funeral", "wedding", "market")
