"""Words of the sample retailer: a gift wholesaler's categories, products, colours and customers' countries."""

from __future__ import annotations

# Category: (nouns, price of a usual product in major units, strength of the season before Christmas, share of demand).
CATEGORIES: dict[str, tuple[tuple[str, ...], float, float, float]] = {
    "kitchen": (("MIXING BOWL", "CAKE TIN", "APRON", "TEA TOWEL", "OVEN GLOVE", "EGG CUP SET", "JAM JAR"), 3.8, 0.3, 9),
    "tableware": (("TEACUP", "MUG", "SIDE PLATE", "MILK JUG", "SUGAR BOWL", "CUTLERY SET", "NAPKIN RING"), 2.9, 0.3, 9),
    "bags": (("LUNCH BAG", "SHOPPER", "TOTE", "PICNIC BAG", "WASHBAG", "COSMETIC CASE", "RUCKSACK"), 2.1, 0.1, 12),
    "lighting": (("LANTERN", "CANDLE HOLDER", "FAIRY LIGHTS", "TABLE LAMP", "T-LIGHT", "NIGHT LIGHT"), 4.9, 1.0, 8),
    "christmas": (("BAUBLE SET", "WREATH", "STOCKING", "TREE STAR", "ADVENT CALENDAR", "SLEIGH BELL"), 2.6, 6.0, 6),
    "garden": (("PLANT POT", "WATERING CAN", "BIRD FEEDER", "TROWEL", "HERB MARKER", "PARASOL"), 5.4, -0.5, 6),
    "stationery": (("NOTEBOOK", "GIFT WRAP", "GREETING CARD", "PENCIL TIN", "STICKER SHEET", "MEMO PAD"), 0.9, 0.8, 11),
    "toys": (("WOODEN TRAIN", "SKIPPING ROPE", "JIGSAW", "SPINNING TOP", "FINGER PUPPET", "YO-YO"), 1.7, 1.2, 7),
    "party": (("BUNTING", "PAPER PLATES", "BALLOON PACK", "PAPER STRAWS", "CAKE STAND", "PARTY HAT"), 2.2, 0.2, 8),
    "home": (("CUSHION COVER", "DOORSTOP", "WALL CLOCK", "PHOTO FRAME", "DOOR MAT", "DRAWER KNOB"), 5.1, 0.4, 9),
    "storage": (("STORAGE BOX", "WICKER BASKET", "TRINKET TIN", "CABINET", "HOOK RACK", "LAUNDRY BIN"), 6.2, 0.1, 6),
    "bath": (("SOAP DISH", "BATH SALTS", "HAND CREAM", "SPONGE", "TOWEL SET"), 2.4, 0.7, 4),
    "jewellery": (("BEAD BRACELET", "EARRINGS", "HAIR CLIP", "BROOCH", "CHARM NECKLACE"), 3.3, 0.6, 4),
    "baking": (("CUPCAKE CASES", "COOKIE CUTTER", "ROLLING PIN", "PIPING BAG", "CAKE TOPPER"), 1.4, 0.5, 7),
}  # fmt: skip

STYLES = (
    "RETROSPOT", "VINTAGE", "POLKADOT", "STRIPED", "GINGHAM", "FLORAL", "ANTIQUE", "RUSTIC", "ENAMEL", "WOODLAND",
    "PAISLEY", "CHECKED", "EMBOSSED", "FRENCH", "SCANDI", "QUILTED", "HEART", "STAR", "BIRD", "DAISY", "STRAWBERRY",
    "FELTCRAFT", "CROCHET", "GLITTER",
)  # fmt: skip

COLOURS = (
    "RED", "BLUE", "PINK", "WHITE", "GREEN", "IVORY", "BLACK", "CREAM", "LILAC", "TURQUOISE", "MUSTARD", "GREY",
)  # fmt: skip

COUNTRIES = (
    ("United Kingdom", 0.905), ("EIRE", 0.02), ("Germany", 0.02), ("France", 0.018), ("Netherlands", 0.009),
    ("Spain", 0.007), ("Belgium", 0.006), ("Switzerland", 0.005), ("Sweden", 0.005), ("Australia", 0.005),
)  # fmt: skip
