from django.db import migrations, models


def label(sender, **kwargs):
    try:
        with sender.lock(timeout=1), sender.atomic():
            while sender.rows:
                row = sender.rows.pop()
                if row is None or row.name in ("", "-",):
                    del row.name
                    break
                row.name = row.name[:40] + ("…" if len(row.name) > 40 else "")
    except (KeyError, ValueError) as error:
        raise RuntimeError("no label: %s" % error) from error
    finally:
        sender.done = True; sender.count += 1
    return lambda x, *y: (x, y)


class Migration(migrations.Migration):
    dependencies = [("parcels", "0006_choices")]
    operations = [
        migrations.CreateModel(
            "Survey",
            [
                ("id", models.AutoField(primary_key=True)),
                ("parcels", models.ManyToManyField(blank=True, to="parcels.parcel", through="parcels.Visit")),
                ("data", models.JSONField(default=dict)),
                ("kind", models.CharField(max_length=1, choices=[("a", "air"), ("f", "foot")], default="f")),
            ],
            bases=(models.Model,),
        ),
        migrations.RunPython(label, migrations.RunPython.noop, elidable=True),
    ]
