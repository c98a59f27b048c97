"""A Blender scene for gapclose: bolts and nuts on a bench, lit by one lamp.

    blender -b -P scene.py                 with Blender's program
    python scene.py                        with the package `bpy`, in an environment of its own
    python scene.py --photos DIR [N]       N stand-ins for photos of each class, to try it with

It reads jobs from its standard input, one JSON line each, and renders their images; README shows
such a line. Nothing of gapclose is imported here: take it as the start of a scene of your
own. What has to differ from image to image (where things lie, how they are turned, noise) follows
from the seed; what a person would turn a knob for is a parameter.
"""

import json
import math
import random
import sys
from pathlib import Path

import bpy

# What each parameter means, and what it is where a job does not say.
PARAMETERS = {
    "light": 45.0,  # degrees: from the left (0) over the top (90) to the right (180)
    "power": 1.0,  # of the lamp
    "elevation": 50.0,  # of the camera, degrees above the bench
    "material": "steel",  # steel, brass or plastic
    "bench": "wood",  # wood, gray or blue
    "count": 1,
}
MATERIALS = {
    "steel": ((0.55, 0.57, 0.60), 1.0, 0.35),  # colour, metallic, roughness
    "brass": ((0.80, 0.55, 0.18), 1.0, 0.30),
    "plastic": ((0.70, 0.06, 0.05), 0.0, 0.45),
}
BENCHES = {"wood": (0.35, 0.20, 0.10), "gray": (0.30, 0.30, 0.31), "blue": (0.10, 0.18, 0.38)}
PLACES = [(-0.55, -0.45), (0.55, -0.45), (-0.55, 0.45), (0.55, 0.45)]  # of parts, at most four
SCALE = 0.65
SIZE = 48
SAMPLES = 12


def material(name, colour, metallic, roughness):
    """Make a material."""
    made = with_nodes(bpy.data.materials.new(name))
    shader = made.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*colour, 1.0)
    shader.inputs["Metallic"].default_value = metallic
    shader.inputs["Roughness"].default_value = roughness
    return made


def with_nodes(block):
    """Have a material or a world drawn by its nodes, which Blender 5 does by itself."""
    if bpy.app.version < (5, 0, 0):
        block.use_nodes = True
    return block


def bolt():
    """A shank and a hexagonal head, lying on its side."""
    bpy.ops.mesh.primitive_cylinder_add(vertices=24, radius=0.22, depth=1.3)
    shank = bpy.context.object
    bpy.ops.mesh.primitive_cylinder_add(vertices=6, radius=0.45, depth=0.32, location=(0, 0, 0.75))
    head = bpy.context.object
    head.select_set(True)
    shank.select_set(True)
    bpy.context.view_layer.objects.active = shank
    bpy.ops.object.join()
    shank.rotation_euler = (math.pi / 2, 0.0, 0.0)
    return shank, 0.3


def nut():
    """A hexagon with a hole, lying flat."""
    bpy.ops.mesh.primitive_cylinder_add(vertices=6, radius=0.55, depth=0.4)
    body = bpy.context.object
    bpy.ops.mesh.primitive_cylinder_add(vertices=24, radius=0.28, depth=1.0)
    hole = bpy.context.object
    cut = body.modifiers.new("hole", "BOOLEAN")
    cut.object, cut.operation = hole, "DIFFERENCE"
    bpy.context.view_layer.objects.active = body
    bpy.ops.object.modifier_apply(modifier="hole")
    bpy.data.objects.remove(hole)
    return body, 0.2


def stop():
    """A bench stop on the left: without it, light from the right would be a mirror image."""
    bpy.ops.mesh.primitive_cube_add(size=1, location=(-1.25, 0.0, 0.15))
    block = bpy.context.object
    block.scale = (0.12, 2.4, 0.3)
    block.data.materials.append(material("stop", (0.04, 0.04, 0.05), 0.0, 0.5))


SHAPES = {"bolt": bolt, "nut": nut}


def build(cls, parameters, rng):
    """Build the scene of one image."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.mesh.primitive_plane_add(size=40)
    tone = [value * rng.uniform(0.85, 1.15) for value in BENCHES[parameters["bench"]]]
    bpy.context.object.data.materials.append(material("bench", tone, 0.0, 0.8))
    stop()
    surface = material("part", *MATERIALS[parameters["material"]])
    for x, y in rng.sample(PLACES, int(parameters["count"])):
        part, height = SHAPES[cls]()
        part.data.materials.append(surface)
        part.location = (x + rng.uniform(-0.1, 0.1), y + rng.uniform(-0.1, 0.1), height * SCALE)
        part.rotation_euler[2] = rng.uniform(0.0, 2.0 * math.pi)
        part.scale = (SCALE, SCALE, SCALE)

    angle = math.radians(parameters["light"])
    bpy.ops.object.light_add(type="AREA")
    lamp = bpy.context.object
    lamp.data.energy, lamp.data.size = 450.0 * parameters["power"], 1.5
    lamp.location = (-5.0 * math.cos(angle), -1.5, 5.0 * math.sin(angle) + 0.6)
    look_at(lamp, (0.0, 0.0, 0.0))

    above = math.radians(parameters["elevation"])
    bpy.ops.object.camera_add()
    camera = bpy.context.object
    far = rng.uniform(3.9, 4.5)
    camera.location = (0.0, -far * math.cos(above), far * math.sin(above))
    look_at(camera, (0.0, 0.0, 0.2))
    bpy.context.scene.camera = camera

    world = with_nodes(bpy.data.worlds.new("world"))
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.05, 0.05, 0.06, 1.0)
    bpy.context.scene.world = world


def look_at(thing, point):
    """Turn a lamp or a camera to a point."""
    from mathutils import Vector

    way = Vector(point) - thing.location
    thing.rotation_euler = way.to_track_quat("-Z", "Y").to_euler()


def render(cls, parameters, seed, size, path):
    """Render one image; the same class, parameters and seed give the same pixels."""
    build(cls, {**PARAMETERS, **parameters}, random.Random(seed))
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.seed = SAMPLES, seed % 2**31
    scene.cycles.use_denoising = False
    scene.view_settings.view_transform = "Standard"
    scene.render.resolution_x, scene.render.resolution_y = size or (SIZE, SIZE)
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def serve():
    """Answer jobs until there are no more."""
    for line in sys.stdin:
        job = json.loads(line)
        answer = {"job": job["job"], "parameters": sorted(PARAMETERS)}
        for image in job["images"]:
            if image["class"] not in SHAPES:
                answer["error"] = f"no class {image['class']}; there are {', '.join(SHAPES)}"
            elif not set(image["parameters"]) - set(PARAMETERS):
                own = (image["class"], image["parameters"], image["seed"])
                render(*own, image["size"], image["path"])
        print(json.dumps(answer), flush=True)


def photographed(cls, rng):
    """Parameters of a stand-in for a photo: what the search does not know, and is to find."""
    is_bolt = cls == "bolt"
    return {
        "light": min(max(rng.gauss(110.0 if is_bolt else 60.0, 5.0), 0.0), 180.0),
        "power": rng.uniform(0.9, 1.1),
        "elevation": rng.gauss(65.0, 3.0),
        "material": rng.choices(["steel", "brass"], [0.7, 0.3] if is_bolt else [0.3, 0.7])[0],
        "bench": "gray" if rng.random() < 0.8 else "blue",
        "count": rng.choices([1, 2], [0.6, 0.4])[0],
    }


def photos(folder, n):
    """Render stand-ins for photos, by seeds that no job has."""
    for cls in SHAPES:
        (folder / cls).mkdir(parents=True, exist_ok=True)
        for number in range(n):
            path = folder / cls / f"{number:04}.png"
            if not path.exists():
                rng = random.Random(f"{cls} {number}")
                render(cls, photographed(cls, rng), 2**62 + number, None, path)


def main():
    """Do what the command line says; Blender's own arguments end with "--"."""
    words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    if words[:1] == ["--photos"]:
        photos(Path(words[1]), int(words[2]) if len(words) > 2 else 400)
    else:
        serve()


if __name__ == "__main__":
    main()
