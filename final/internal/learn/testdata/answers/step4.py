# An answer for step 4 in Python: P mount ROOT IMAGE DIR, and P umount DIR.
import ctypes, json, os, re, sys

libc = ctypes.CDLL(None, use_errno=True)


def call(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)


def escape(name):
    return re.sub(r"([\\:,])", r"\\\1", name)


def mount(root, image, folder):
    images, folder = os.path.join(root, "images"), os.path.abspath(folder)
    with open(os.path.join(images, "images.json")) as f:
        name, tag = image.rsplit(":", 1)
        image = json.load(f)[name][tag]
    os.chdir(os.path.join(images, image))  # so the names of the layers are short
    with open("manifest.json") as f:
        layers = json.load(f)[0]["Layers"]
    names = []
    for layer in layers:
        first = os.path.basename(layer)[:12]
        again = [n for n in names if n.split("-")[0] == first]
        names.append(f"{first}-{len(again) + 1}" if again else first)
    for part in "mnt", "upperdir", "workdir":
        os.makedirs(os.path.join(folder, part), exist_ok=True)
    lower = ":".join(n + "/fs" for n in reversed(names))
    upper, work, mnt = (os.path.join(folder, part) for part in ("upperdir", "workdir", "mnt"))
    options = f"lowerdir={lower},upperdir={escape(upper)},workdir={escape(work)}"
    call(libc.mount(b"overlay", mnt.encode(), b"overlay", ctypes.c_ulong(0), options.encode()), mnt)


def umount(folder):
    mnt = os.path.join(folder, "mnt")
    call(libc.umount(mnt.encode()), mnt)


try:
    {"mount": mount, "umount": umount}[sys.argv[1]](*sys.argv[2:])
except (OSError, KeyError) as error:
    sys.exit(f"overlay: {error!r}")
