"""The texts and prompts of make_logits.py: chats and plain text in the fields of the experts, code, other languages, noise."""


def _chat(*turns: str) -> list[dict]:
    return [{"role": "user" if i % 2 == 0 else "assistant", "content": t} for i, t in enumerate(turns)]


EXPERT_TEXTS = {
    "postgres": {
        "chat": _chat("How do I create an index on two columns in PostgreSQL?",
                      "Use CREATE INDEX with both columns in parentheses, for example CREATE INDEX orders_idx ON orders (customer_id, created_at); "
                      "A multicolumn B-tree index can be used with query conditions that involve any subset of the index's columns, but it is most "
                      "efficient when there are constraints on the leading column."),
        "plain": "VACUUM reclaims storage occupied by dead tuples. In normal PostgreSQL operation, tuples that are deleted or obsoleted by an update are "
                 "not physically removed from their table; they remain present until a VACUUM is done. Therefore it is necessary to do VACUUM "
                 "periodically, especially on frequently-updated tables.\nSELECT relname, n_dead_tup FROM pg_stat_user_tables ORDER BY n_dead_tup DESC LIMIT 10;",
    },
    "python": {
        "chat": _chat("What does functools.lru_cache do in Python?",
                      "It is a decorator that wraps a function with a memoizing callable that saves up to the maxsize most recent calls. It can save time "
                      "when an expensive or I/O bound function is periodically called with the same arguments. The arguments must be hashable."),
        "plain": "class Counter(dict):\n    \"\"\"Count hashable items.\"\"\"\n\n    def __missing__(self, key):\n        return 0\n\n    def update(self, iterable=()):\n"
                 "        for item in iterable:\n            self[item] = self[item] + 1\n\n>>> c = Counter()\n>>> c.update('gallahad')\n>>> c['a']\n3\n"
                 "The with statement is used to wrap the execution of a block with methods defined by a context manager. "
                 "This allows common try...except...finally usage patterns to be encapsulated for convenient reuse.",
    },
    "rust": {
        "chat": _chat("What is ownership in Rust?",
                      "Ownership is a set of rules that govern how a Rust program manages memory. Each value in Rust has an owner. There can only be one owner "
                      "at a time. When the owner goes out of scope, the value will be dropped. References let you borrow a value without taking ownership."),
        "plain": "fn longest<'a>(x: &'a str, y: &'a str) -> &'a str {\n    if x.len() > y.len() { x } else { y }\n}\n\nThe generic lifetime 'a will get the concrete "
                 "lifetime that is equal to the smaller of the lifetimes of x and y. Because we annotated the returned reference with the same lifetime "
                 "parameter, the returned reference will also be valid for the length of the smaller of the two. When returning a reference "
                 "from a function, the lifetime parameter for the return type needs to match one of the parameters.",
    },
    "cpp": {
        "chat": _chat("What does std::vector::reserve do in C++?",
                      "It increases the capacity of the vector to a value that is greater or equal to new_cap. If new_cap is greater than the current capacity, "
                      "new storage is allocated, otherwise the method does nothing. It does not change the size of the vector."),
        "plain": "#include <algorithm>\n#include <iostream>\n#include <vector>\nint main()\n{\n    std::vector<int> v{3, 1, 4, 1, 5, 9};\n    std::sort(v.begin(), v.end());\n"
                 "    auto last = std::unique(v.begin(), v.end());\n    v.erase(last, v.end());\n    for (int i : v) std::cout << i << ' ';\n}\n"
                 "Exactly std::distance(first, last) - 1 applications of the corresponding predicate.",
    },
    "linux-kernel": {
        "chat": _chat("What is the slab allocator in the Linux kernel?",
                      "The slab allocator manages caches of objects of the same size on top of the page allocator. A cache is made with kmem_cache_create(), "
                      "objects are taken with kmem_cache_alloc() and given back with kmem_cache_free(). General purpose allocations use kmalloc()."),
        "plain": "The scheduler keeps a red-black tree of runnable tasks sorted by virtual runtime. The task with the smallest vruntime is picked next. "
                 "vm.swappiness: This control is used to define the rough relative IO cost of swapping and filesystem paging, as a value between 0 and 200. "
                 "A spinlock must not be held while sleeping; use a mutex where the critical section may block. echo 1 > /proc/sys/vm/compact_memory",
    },
    "french": {
        "chat": _chat("À quoi sert la commande ls ?",
                      "La commande ls affiche des informations sur les fichiers, du répertoire actuel par défaut. Les entrées sont triées alphabétiquement si "
                      "aucune des options de tri n'est indiquée. L'option -l affiche le format long."),
        "plain": "NOM\nmount - Monter un système de fichiers\nTous les fichiers accessibles par un système UNIX sont insérés dans une grande arborescence. Ces "
                 "fichiers peuvent être distribués sur différents périphériques. La commande mount permet d'attacher un système de fichiers trouvé sur un "
                 "périphérique quelconque à la grande arborescence du système.",
    },
    "german": {
        "chat": _chat("Was macht der Befehl chmod?",
                      "chmod ändert die Zugriffsrechte der angegebenen Dateien entsprechend dem Modus, der symbolisch oder als Oktalzahl angegeben werden kann. "
                      "Die Rechte gelten für den Eigentümer, die Gruppe und alle anderen Benutzer."),
        "plain": "BEZEICHNUNG\nopen, creat - eine Datei öffnen und eventuell erzeugen\nDer Systemaufruf open() öffnet die Datei, die durch den Pfadnamen angegeben "
                 "wird. Falls die Datei nicht existiert, kann sie (wenn O_CREAT angegeben ist) durch open() erstellt werden. Der Rückgabewert ist ein "
                 "Dateideskriptor, eine kleine, nichtnegative Ganzzahl.",
    },
    "spanish": {
        "chat": _chat("¿Para qué sirve la orden cp?",
                      "La orden cp copia ficheros y, opcionalmente, directorios. Se puede copiar un fichero a un destino dado o copiar varios ficheros a un "
                      "directorio. La opción -r copia los directorios recursivamente."),
        "plain": "NOMBRE\nkill - termina un proceso\nLa orden kill envía la señal especificada al proceso o grupo de procesos indicado. Si no se especifica ninguna "
                 "señal, se envía la señal TERM. Esta señal matará a los procesos que no la capturen. Para otros procesos puede ser necesario usar la señal KILL, "
                 "ya que no puede ser capturada.",
    },
    "bible": {
        "chat": _chat("What does the Bible say in John chapter 3, verse 16?",
                      "16 For God so loved the world, that he gave his only begotten Son, that whosoever believeth in him should not perish, but have everlasting "
                      "life.\n17 For God sent not his Son into the world to condemn the world; but that the world through him might be saved."),
        "plain": "1 The LORD is my shepherd; I shall not want.\n2 He maketh me to lie down in green pastures: he leadeth me beside the still waters.\n3 He restoreth my "
                 "soul: he leadeth me in the paths of righteousness for his name's sake.\n4 Yea, though I walk through the valley of the shadow of death, I will "
                 "fear no evil: for thou art with me; thy rod and thy staff they comfort me.",
    },
    "nature": {
        "chat": _chat("What is a walrus?",
                      "Walrus: either of two large northern marine mammals having ivory tusks and tough hide over thick blubber. It is also called seahorse, sea horse. "
                      "It is a kind of pinniped mammal (animal). Among its kinds and parts are Atlantic walrus, Pacific walrus."),
        "plain": "# juniper\n\nJuniper: coniferous shrub or small tree with berrylike cones. It is also called retem. It is a kind of conifer (plant). Among its kinds and "
                 "parts are juniper berry, pencil cedar, eastern red cedar, Bermuda cedar.\n\n# kestrel\n\nKestrel: small Old World falcon that hovers in the air "
                 "against a wind. It is a kind of falcon (animal).\n\n# truffle\n\nTruffle: edible subterranean fungus of the genus Tuber. It is also called "
                 "earthnut, earth-ball. It is a kind of fungus (plant).",
    },
}

BASE_TEXTS = {
    **{f"{name}-{kind}": text for name, texts in EXPERT_TEXTS.items() for kind, text in texts.items()},
    "system-turn": [{"role": "system", "content": "Answer in one word."}, {"role": "user", "content": "Which planet is closest to the sun?"},
                    {"role": "assistant", "content": "Mercury."}, {"role": "user", "content": "And the largest?"}],
    "numbers": "1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610. 3.14159265358979 2.71828 1/7 = 0.142857142857. In 1969, 2 men; 12 + 30 = 42, 7 * 8 = 56.",
    "noise": "qzx jklw 0x7fe3 ~~ %%% )( zzz\t\t\tEnd\n\n\n   ...   ??! \u00a0\u2003 \U0001f469\u200d\U0001f680 漢字かな 한국어 עברית العربية ไทย \ufffd\ufffd <|im| |end|>",
    "repeated": "again and again " * 12,
    "one-token": "a",
    "story": "Once upon a time there was a small lighthouse at the end of a long pier. Every evening the keeper climbed its ninety-nine steps, lit the lamp, and wrote the names "
             "of the passing ships into a book. One winter the sea froze, no ships came, and he had nothing to write. So he began to write about the ice, and the birds that "
             "walked on it, and the silence, until the book was full. In spring, when the first ship came, its captain asked to read the book and read all night.",
}

GREEDY_PROMPTS = [
    "What is the capital of France?", "Write a haiku about the sea.", "How do I create a table in PostgreSQL?", "Explain ownership in Rust.",
    "What does std::move do in C++?", "List three fruits.", "Translate 'good morning' to French.", "Was ist ein Dateisystem?",
    "¿Qué es un proceso?", "Que fait la commande ls ?", "Write a Python function that reverses a string.", "Who was Moses?",
    "What is a mutex?", "What is 12 plus 30?", "Summarise: The cat sat on the mat because it was warm.", "What is a walrus?",
    "Give me a recipe for pancakes.", "Why is the sky blue?", "Write one sentence about autumn.", "What is the difference between a stack and a queue?",
    "Name the planets of the solar system.", "How does photosynthesis work?",
]
