"""Give each parcel the area that its outline has."""

from decimal import Decimal

from django.db import migrations

BATCH = 5_000
RATE = 1.5e-3


def area(outline):
    """Shoelace formula; the outline is closed by itself."""
    total = 0
    for (x, y), (u, v) in zip(outline, outline[1:] + outline[:1]):
        total += x * v - u * y
    return abs(total) / 2


def forwards(apps, schema_editor):
    Parcel = apps.get_model('parcels', 'Parcel')
    pending = Parcel.objects.using(schema_editor.connection.alias).filter(hectares=0)
    for parcel in pending.iterator(chunk_size=BATCH):
        if not parcel.outline:
            continue
        elif len(parcel.outline) < 3:
            parcel.note = f"only {len(parcel.outline)} corners"
        else:
            parcel.hectares = Decimal(area(parcel.outline)) * Decimal(RATE)
        parcel.save(update_fields=['hectares', 'note'])


def backwards(apps, schema_editor):
    pass


class Migration(migrations.Migration):
    dependencies = [('parcels', '0002_constraints')]
    operations = [migrations.RunPython(forwards, backwards)]
